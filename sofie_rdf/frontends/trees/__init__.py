"""Gradient boosting: the files of XGBoost and LightGBM, read without either."""
