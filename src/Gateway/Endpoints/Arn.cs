namespace GpuTasks.Gateway.Endpoints;

/// <summary>Resource names of the contract.</summary>
internal static class Arn
{
    public static string Function(GatewayOptions options, string account, string function) =>
        $"acs:fc:{options.Region}:{account}:functions/{function}";
}
