//! What a configuration file becomes, and what is said when it is wrong.
