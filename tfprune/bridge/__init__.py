"""The other generation of Keras: models brought over, and the loader of files of both."""
