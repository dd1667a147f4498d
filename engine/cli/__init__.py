"""The command line. main.py settles threads before anything loads NumPy; the other files hold one command each."""
