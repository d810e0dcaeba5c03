"""The competitors: the same four tasks in `Trainer.fit`, plain Keras, PyTorch, Lightning and the original notebooks."""
