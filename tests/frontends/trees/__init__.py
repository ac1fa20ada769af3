"""Trees: XGBoost, LightGBM and scikit-learn, beside the libraries themselves."""
