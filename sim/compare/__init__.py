"""`hstu compare`: plans of runs, the processes that run them, and the tables that they leave."""
