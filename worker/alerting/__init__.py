"""What becomes of verdicts before they are published: which alerts are held, which events come with them. No I/O."""
