"""What is in a file, and running it. No TensorFlow here."""
