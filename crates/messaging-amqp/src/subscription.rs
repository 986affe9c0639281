//! Opening subscriptions, and what each receives.

mod desk;
mod order;
mod past;
mod ring;
