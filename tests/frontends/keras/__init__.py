"""Tests of the Keras frontend; Keras with torch is the oracle."""
