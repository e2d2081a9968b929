"""From a frame to its outcome: distances, scores, a judgement, a heat map. No I/O."""
