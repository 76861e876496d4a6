using System.Diagnostics.CodeAnalysis;

namespace GpuTasks.Functions;

/// <summary>A function's name in the contract's long form: <c>acs:fc:{region}:{account}:functions/{name}[/{qualifier}]</c>.</summary>
/// <param name="Account">Account id; empty stands for the caller's own.</param>
/// <param name="Function">Function name.</param>
/// <param name="Qualifier">Version or alias; <c>LATEST</c> where none is given.</param>
public sealed record FunctionArn(string Account, string Function, string Qualifier)
{
    /// <summary>Reads the long form, as loosely as vendor examples write it: a slash before <c>functions</c> and an empty account are fine.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out FunctionArn? arn)
    {
        arn = text.Split(':', 5) is ["acs", "fc", _, var account, var resource]
            && resource.TrimStart('/').Split('/') is ["functions", { Length: > 0 } name, .. { Length: <= 1 } rest]
            ? new FunctionArn(account, name, rest is [{ Length: > 0 } qualifier] ? qualifier : "LATEST")
            : null;
        return arn is not null;
    }
}
