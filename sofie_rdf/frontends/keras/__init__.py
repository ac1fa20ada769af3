"""Keras: .keras and .h5 files, read without Keras, and models in memory."""
