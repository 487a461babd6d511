"""What every part uses: registries, files, batches, progress, Keras helpers."""
