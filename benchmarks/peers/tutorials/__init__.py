"""The original notebooks of the four tasks, as TensorFlow and Keras wrote them, to compare with."""
