"""What training and serving must agree on: numpy, cv2, yaml, pydantic and the standard library only."""
