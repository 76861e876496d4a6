namespace GpuTasks.Relay;

/// <summary>How the relay was called: <c>[--box FOLDER] -- COMMAND ARGUMENT...</c></summary>
/// <param name="BoxPath">The shared folder: <c>--box</c>, else <c>GPUTASKS_BOX</c>, else <c>/.gputasks</c>.</param>
/// <param name="Command">What to start.</param>
internal sealed record Launch(string BoxPath, IReadOnlyList<string> Command)
{
    internal const string BoxVariable = "GPUTASKS_BOX";

    private const string DefaultBoxPath = "/.gputasks";

    /// <summary>Null when the arguments are not like that.</summary>
    internal static Launch? Parse(string[] arguments)
    {
        var box = Environment.GetEnvironmentVariable(BoxVariable) is { Length: > 0 } path ? path : DefaultBoxPath;
        return arguments switch
        {
            ["--box", var given, "--", .. { Length: > 0 } command] => new(given, command),
            ["--", .. { Length: > 0 } command] => new(box, command),
            _ => null,
        };
    }
}
