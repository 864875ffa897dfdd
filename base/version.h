#pragma once
/* The one place of the version; CMakeLists.txt reads it from here. */

#define PILLION_VERSION "0.1.0"
