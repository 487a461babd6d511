"""What the package needs of Keras beyond its public interface."""
