"""The stores on DynamoDB: for installations without a machine of their own. boto3 is imported when a client is made."""
