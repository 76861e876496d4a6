namespace GpuTasks.Functions;

/// <summary>
/// One definition of a function: what <c>LATEST</c> stands for at the moment, or a published version. Each has a queue and
/// instances of its own, so that no task ever runs on another definition than its own.
/// </summary>
/// <param name="Account">Account id.</param>
/// <param name="Function">Function name.</param>
/// <param name="Version">Version id, or null for <c>LATEST</c>.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.DefinitionKey")]
public readonly record struct DefinitionKey(
    [property: Id(0)] string Account,
    [property: Id(1)] string Function,
    [property: Id(2)] string? Version)
{
    /// <summary>The definition within its account: <c>{function}</c> or <c>{function}.{version}</c>. No function's name has a dot.</summary>
    public string Line => LineOf(Function, Version);

    /// <summary>Key of the definition's dispatcher: <c>{account}/{line}</c>.</summary>
    public override string ToString() => $"{Account}/{Line}";

    /// <summary>As <see cref="Line"/>.</summary>
    public static string LineOf(string function, string? version) => version is null ? function : $"{function}.{version}";

    /// <summary>Reads a line back.</summary>
    public static (string Function, string? Version) Split(string line) =>
        line.IndexOf('.', StringComparison.Ordinal) is var dot and >= 0 ? (line[..dot], line[(dot + 1)..]) : (line, null);

    /// <summary>Reads a grain key back.</summary>
    /// <exception cref="FormatException">The text has not exactly two parts.</exception>
    public static DefinitionKey Parse(string key)
    {
        if (key.Split('/') is not [var account, var line])
        {
            throw new FormatException($"'{key}' is no definition's key; expected account/function or account/function.version.");
        }

        var (function, version) = Split(line);
        return new DefinitionKey(account, function, version);
    }
}
