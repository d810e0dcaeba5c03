"""The training step and loop: losses, optimizers, updates."""
