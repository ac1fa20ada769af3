"""scikit-learn: estimators and pipelines, converted and compared with the library."""
