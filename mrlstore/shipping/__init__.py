"""Copies of stores in object storage: kept up to date by `Store.ship`, and restored from there."""

from mrlstore.shipping.restore_points import RestorePoint, restore, restore_points
from mrlstore.shipping.shipper import Shipping

__all__ = ["RestorePoint", "Shipping", "restore_points", "restore"]
