"""What tests of users, certificates and passwords share."""
