"""Plain Keras models: a compiled `keras.Model` trained by the Trainer."""
