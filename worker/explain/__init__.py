"""Why a frame was judged as it was: compared with what, where, by how much, and what another threshold would do."""
