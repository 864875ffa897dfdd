#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/crypto.h"
#include "base/json.h"
#include "cli/command.h"

extern char **environ;

int main(int argc, char **argv)
{
    alloc_init();
    crypto_init();
    json_init_library();
    (void)signal(SIGPIPE, SIG_IGN);
    return command_run(argc, argv, environ, stdout, stderr);
}
