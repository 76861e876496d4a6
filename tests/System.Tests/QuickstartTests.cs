namespace GpuTasks.SystemTests;

/// <summary>The one command that newcomers run.</summary>
[Collection(BuildsQuickstart.Name)]
public sealed class QuickstartTests
{
    private static readonly string Quickstart = Path.Combine(Machine.Root, "quickstart");

    [Fact]
    public async Task Help_names_every_option()
    {
        var (code, output) = await Machine.RunAsync(Quickstart, ["--help"], TimeSpan.FromSeconds(10));
        Assert.Equal(0, code);
        Assert.All((string[])["--serve", "--port", "--data", "--cards", "--node-cpus", "--node-memory", "--keys", "--docker", "--postgres"], option => Assert.Contains(option, output, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("--what")]
    [InlineData("--port")]
    [InlineData("--port", "http")]
    [InlineData("--port", "65536")]
    [InlineData("--node-memory", "-1")]
    [InlineData("--keys", "/no/such/file")]
    public async Task Wrong_option_is_named_with_exit_code_2(params string[] arguments)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        var (code, output) = await Machine.RunAsync(Quickstart, arguments, TimeSpan.FromSeconds(10));
        Assert.Equal(2, code);
        Assert.Contains(arguments[^1], output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Demonstration_gets_every_transcript_right_twice_in_a_row_and_leaves_nothing()
    {
        var folder = Directory.CreateTempSubdirectory("gputasks-quickstart-").FullName;
        try
        {
            for (var time = 1; time <= 2; time++)
            {
                var (code, output) = await Machine.RunAsync(Quickstart, ["--data", folder, "--port", "0", "--docker", Machine.DockerHost], TimeSpan.FromMinutes(8));
                Assert.True(code == 0, output);
                Assert.Contains("gateway: http://127.0.0.1:", output, StringComparison.Ordinal);
                Assert.Contains("8 of 8 transcripts are right", output, StringComparison.Ordinal);
                var node = (await File.ReadAllTextAsync(Path.Combine(folder, "node-name"), TestContext.Current.CancellationToken)).Trim();
                Assert.Empty(await Machine.DockerAsync("ps", "-aq", "--filter", $"label=gputasks.node={node}"));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
