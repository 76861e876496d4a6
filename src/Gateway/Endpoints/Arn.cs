namespace GpuTasks.Gateway.Endpoints;

/// <summary>Resource names of the contract.</summary>
internal static class Arn
{
    /// <summary>The function's name, with the qualifier unless it is LATEST.</summary>
    public static string Function(GatewayOptions options, string account, string function, string qualifier = Validation.Names.Latest) =>
        $"acs:fc:{options.Region}:{account}:functions/{function}{(qualifier == Validation.Names.Latest ? "" : $"/{qualifier}")}";
}
