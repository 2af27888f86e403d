"""At which temperature a posterior predicts best."""
