"""What is deleted, and nothing else is: an institution that left, what a patient asks for, what is past its time."""
