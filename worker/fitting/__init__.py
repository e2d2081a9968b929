"""From good pictures to a bank: what they look like, synthetic anomalies, the detectors' votes, the calibration."""
