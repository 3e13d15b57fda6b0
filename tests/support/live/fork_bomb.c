// Starts a number of processes that end at once, one after the other. Usage: fork_bomb NUMBER [PROGRAM]
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words)
{
    char *program[] = {words[2], 0};
    for (int left = atoi(words[1]); left > 0; left--) {
        pid_t child = vfork();
        if (!child) {
            if (count > 2)
                execv(words[2], program);
            _exit(0);
        }
        if (child > 0)
            waitpid(child, 0, 0);
    }
    return 0;
}
