using System.Diagnostics;
using System.Text;
using System.Text.Json;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Tests;

/// <summary>The official SDK against the gateway: what it sends is understood, and what it gets back satisfies it.</summary>
public sealed class SdkTests
{
    [Fact]
    public async Task The_official_sdk_is_served_with_only_its_endpoint_changed()
    {
        var cancel = TestContext.Current.CancellationToken;
        var folder = Directory.CreateTempSubdirectory("sdk-check-").FullName;
        try
        {
            foreach (var file in new[] { "package.json", "package-lock.json", "check.cjs" })
            {
                File.Copy(Path.Combine(AppContext.BaseDirectory, "sdk", file), Path.Combine(folder, file));
            }

            var install = await RunAsync("npm", ["ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder, [], cancel);
            Assert.SkipWhen(install is null, "npm is not installed");
            Assert.SkipWhen(install!.Value.Code != 0, $"the SDK cannot be had from npm: {install.Value.Output}");

            await using var server = await GatewayServer.StartAsync();
            server.Platform.Executes = true;
            server.Platform.Run = order =>
            {
                var fails = Encoding.UTF8.GetString(order.Payload).Contains("\"fail\"", StringComparison.Ordinal);
                return new RunReport
                {
                    RunId = order.RunId,
                    InstanceId = order.InstanceId,
                    Node = "node-1",
                    Outcome = fails ? RunOutcome.FunctionError : RunOutcome.Succeeded,
                    StatusCode = 200,
                    Response = fails ? """{"errorMessage":"on purpose"}"""u8.ToArray() : order.Payload,
                    ContentType = "application/json",
                    LogTail = "log"u8.ToArray(),
                };
            };
            var check = await RunAsync("node", ["check.cjs"], folder,
            [
                ("GPUTASKS_ENDPOINT", server.Url.Authority),
                ("GPUTASKS_ACCESS_KEY_ID", GatewayServer.AccessKey),
                ("GPUTASKS_ACCESS_KEY_SECRET", GatewayServer.Secret),
                ("GPUTASKS_API_KEY", GatewayServer.ApiKey),
                ("GPUTASKS_GPU", "fc.gpu.tesla.1:16384"),
                ("GPUTASKS_TIMEOUT", "10"),
            ], cancel);
            Assert.True(check!.Value.Code == 0, check.Value.Output);
            Assert.All(
                check.Value.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => line.StartsWith('{')),
                line => Assert.True(JsonDocument.Parse(line).RootElement.GetProperty("ok").GetBoolean(), line));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<(int Code, string Output)?> RunAsync(
        string program, string[] arguments, string folder, (string Name, string Value)[] environment, CancellationToken cancellationToken)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        try
        {
            using var process = Process.Start(start)!;
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            patience.CancelAfter(TimeSpan.FromMinutes(3));
            var output = process.StandardOutput.ReadToEndAsync(patience.Token);
            var errors = process.StandardError.ReadToEndAsync(patience.Token);
            await process.WaitForExitAsync(patience.Token);
            return (process.ExitCode, await output + await errors);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }
}
