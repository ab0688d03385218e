// Catch's main is slow to compile: once, for every test program.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
