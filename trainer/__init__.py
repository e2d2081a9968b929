"""The trainer: learns an encoder from pictures of good parts with masked contrastive learning."""
