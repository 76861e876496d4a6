using System.Globalization;
using System.Text.Json;

namespace GpuTasks.SystemTests;

/// <summary>The official Node SDK against the whole platform, containers included.</summary>
public sealed class SdkTests
{
    [Fact]
    public async Task Official_SDK_is_served_with_only_its_endpoint_changed()
    {
        var source = Path.Combine(Machine.Root, "tests", "Gateway.Tests", "sdk");
        var folder = Directory.CreateTempSubdirectory("gputasks-sdk-").FullName;
        try
        {
            foreach (var file in (string[])["package.json", "package-lock.json", "check.cjs"])
            {
                File.Copy(Path.Combine(source, file), Path.Combine(folder, file));
            }

            var install = await Machine.RunAsync("npm", ["ci", "--no-audit", "--no-fund", "--ignore-scripts"], TimeSpan.FromMinutes(5), folder);
            Assert.True(install.Code == 0, install.Output);

            await using var platform = await Platform.StartAsync();
            var check = await Machine.RunAsync(
                "node", ["check.cjs"], TimeSpan.FromMinutes(5), folder,
                ("GPUTASKS_ENDPOINT", string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{platform.Port}")),
                ("GPUTASKS_ACCESS_KEY_ID", Platform.AccessKeyId),
                ("GPUTASKS_ACCESS_KEY_SECRET", Platform.AccessKeySecret),
                ("GPUTASKS_IMAGE", Machine.EchoImage),
                ("GPUTASKS_GPU", "fc.gpu.tesla.1:16384"),
                ("GPUTASKS_TIMEOUT", "60"));
            Assert.True(check.Code == 0, check.Output + platform.LogTail());
            var lines = check.Output.Split('\n').Where(line => line.StartsWith('{')).ToList();
            Assert.NotEmpty(lines);
            Assert.All(lines, line => Assert.True(JsonDocument.Parse(line).RootElement.GetProperty("ok").GetBoolean(), line));
            await Eventually.ComesAsync("the end of all containers", TimeSpan.FromSeconds(60), platform.ContainersAsync, containers => containers.Length == 0);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
