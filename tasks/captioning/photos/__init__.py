"""Photos with captions: annotations, sources, pixels, frozen encoders, and their features on disk."""
