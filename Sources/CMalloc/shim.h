#pragma once
/* glibc's own header: the Glibc module leaves it out. */
#include <malloc.h>
