"""Six well-known patterns as plain Keras models, written as the Keras guides teach them."""
