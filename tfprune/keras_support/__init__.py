"""The parts of Keras that the package uses beyond its public interface."""
