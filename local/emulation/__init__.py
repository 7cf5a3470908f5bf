"""What is changed in moto: tables and objects that last."""
