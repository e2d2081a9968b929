"""A frame as a camera publishes it, and the events that it becomes."""
