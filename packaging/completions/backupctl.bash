# Completion of backupctl(1) for bash. The program itself completes: it asks the daemon for sources, backups and jobs.

_backupctl() {
    local replies IFS=$'\n'
    if ! replies=$(command backupctl complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null); then
        # The target of a redirection, or a program that is older than this file.
        compopt -o default 2>/dev/null
        COMPREPLY=()
        return
    fi
    # Not subject to globbing, unlike an unquoted expansion.
    mapfile -t COMPREPLY <<<"$replies"
    [[ -n $replies ]] || COMPREPLY=()
    # After a folder and an option with a value comes more of the same word.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o nosort -F _backupctl backupctl
