"""The worker's settings, and the secrets and certificates that they name."""
