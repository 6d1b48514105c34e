"""The entry points of AWS Lambda, one module for each function that terraform/ deploys."""
