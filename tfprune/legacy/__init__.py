"""The other generation of Keras: tfmot, the bridge, and the loader of old files."""
