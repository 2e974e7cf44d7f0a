//! Death at every primitive.
