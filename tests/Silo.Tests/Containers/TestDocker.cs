namespace GpuTasks.Tests.Containers;

/// <summary>The real engine, relay and image that <c>./test</c> brings along.</summary>
internal static class TestDocker
{
    public const string EchoImage = "gputasks/echo:test";

    public static string Endpoint => Environment.GetEnvironmentVariable("GPUTASKS_TEST_DOCKER") ?? "";

    public static string Relay => Environment.GetEnvironmentVariable("GPUTASKS_RELAY") ?? "";

    public static void SkipWithoutEngine() =>
        Assert.SkipWhen(Endpoint.Length == 0, "GPUTASKS_TEST_DOCKER names no engine; ./test starts one.");

    public static void SkipWithoutRelay()
    {
        SkipWithoutEngine();
        Assert.SkipWhen(Relay.Length == 0, "GPUTASKS_RELAY names no relay; ./test builds one.");
    }
}

/// <summary>A folder that goes with its test.</summary>
internal sealed class TestFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("gputasks-test-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
