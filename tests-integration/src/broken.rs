//! Drivers that each break one rule of the contract, over the memory backend.
