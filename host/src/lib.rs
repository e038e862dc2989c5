//! What runs beside the appliance.
