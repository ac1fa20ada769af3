"""ONNX: files, bytes and protos, and what older opsets and other domains mean."""
