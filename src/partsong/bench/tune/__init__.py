"""The search for the recipe that is worth its price: a pool of answers, a race of recipes, and one test at the end."""
