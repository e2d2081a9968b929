"""The engine builder: compiles a trained model for the runtime that serves it."""
