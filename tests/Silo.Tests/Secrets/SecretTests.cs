using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using GpuTasks.Functions;
using GpuTasks.Secrets;
using GpuTasks.Security;
using GpuTasks.Storage;
using GpuTasks.Store;
using GpuTasks.Tests.Storage;
using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Tests.Secrets;

public sealed class SecretsOnSqliteTests(SqliteStore store) : SecretTests(store), IClassFixture<SqliteStore>;

public sealed class SecretsOnPostgreSqlTests(PostgreSqlStore store) : SecretTests(store), IClassFixture<PostgreSqlStore>;

/// <summary>What lies in the database of what is secret, and what can still be read after the ring has turned.</summary>
public abstract class SecretTests
{
    private readonly TestStore store;

    protected SecretTests(TestStore store)
    {
        Assert.SkipWhen(store.Missing is not null, store.Missing ?? "");
        this.store = store;
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private SecretProtector Secrets => store.Services.GetRequiredService<SecretProtector>();

    [Fact]
    public async Task Passwords_and_variables_of_a_function_lie_encrypted_and_come_back()
    {
        var function = Function();
        var row = await WriteAsync(StoreNames.Function, new FunctionState { Function = function });
        Assert.DoesNotContain("pass-word-1", row, StringComparison.Ordinal);
        Assert.DoesNotContain("token-value-1", row, StringComparison.Ordinal);
        Assert.Contains("SECRET_TOKEN", row, StringComparison.Ordinal);
        var read = (await ReadAsync<FunctionState>(StoreNames.Function)).Function!.Spec;
        Assert.Equal("pass-word-1", read.Container.RegistryPassword);
        Assert.Equal("token-value-1", read.Environment["SECRET_TOKEN"]);
    }

    [Fact]
    public async Task Secrets_of_access_keys_lie_encrypted_and_come_back()
    {
        var at = DateTimeOffset.UtcNow;
        var (state, _) = AccountTable.Create(new AccountsState(), "acme", new AccountSettings(), at);
        (state, _) = AccountTable.AddKey(state, "acme", new AccountKey { Id = "GT1", Secret = "secret-of-acme" }, null, default, at);
        Assert.DoesNotContain("secret-of-acme", await WriteAsync(StoreNames.Accounts, state), StringComparison.Ordinal);
        Assert.Equal("secret-of-acme", (await ReadAsync<AccountsState>(StoreNames.Accounts)).Accounts[0].Keys[0].Secret);
    }

    [Fact]
    public async Task Values_stay_readable_after_the_ring_has_turned_and_in_another_process()
    {
        var before = Secrets.Protect("kept");
        Secrets.Keys.CreateNewKey(DateTimeOffset.UtcNow - TimeSpan.FromMinutes(1), DateTimeOffset.UtcNow + TimeSpan.FromDays(30));
        using var other = new SecretProtector(new SecretOptions(), store.Database);
        Assert.Equal("kept", other.Unprotect(before));
        var after = other.Protect("kept");

        // The first bytes name the key, so a turned ring shows.
        Assert.NotEqual(before[..40], after[..40]);
        Assert.Equal("kept", Secrets.Unprotect(after));
        await Task.CompletedTask;
    }

    [Fact]
    public async Task Rows_in_the_clear_of_earlier_versions_are_read()
    {
        var clear = new SystemTextJsonStorageSerializer().Serialize(new FunctionState { Function = Function() });
        Assert.Contains("pass-word-1", clear.ToString(), StringComparison.Ordinal);
        var read = store.Services.GetRequiredService<SystemTextJsonStorageSerializer>().Deserialize<FunctionState>(clear);
        Assert.Equal("pass-word-1", read.Function!.Spec.Container.RegistryPassword);
        await Task.CompletedTask;
    }

    [Fact]
    public async Task The_ring_itself_can_be_encrypted_by_a_certificate()
    {
        var folder = Directory.CreateTempSubdirectory("gputasks-ring-").FullName;
        try
        {
            using var key = RSA.Create(2048);
            var file = Path.Combine(folder, "ring.pfx");
            var request = new CertificateRequest("CN=ring", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            await File.WriteAllBytesAsync(file, request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(9)).Export(X509ContentType.Pfx, "p"), Cancel);
            var options = new SecretOptions { Folder = Path.Combine(folder, "ring"), CertificateFile = file, CertificatePassword = "p" };
            string closed;
            using (var first = new SecretProtector(options, store.Database))
            {
                closed = first.Protect("kept");
            }

            var ring = await File.ReadAllTextAsync(Assert.Single(Directory.GetFiles(options.Folder, "*.xml")), Cancel);
            Assert.Contains("EncryptedData", ring, StringComparison.Ordinal);
            using var second = new SecretProtector(options, store.Database);
            Assert.Equal("kept", second.Unprotect(closed));
            using var without = new SecretProtector(new SecretOptions { Folder = options.Folder }, store.Database);
            Assert.ThrowsAny<CryptographicException>(() => without.Unprotect(closed));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task The_log_of_changes_is_paged_by_account_and_purged_by_age()
    {
        var log = store.Services.GetRequiredService<IAuditLog>();
        var account = Samples.NewAccount();
        await log.PurgeAsync(DateTimeOffset.UtcNow, 1_000, Cancel);
        foreach (var i in Enumerable.Range(0, 5))
        {
            await log.AppendAsync(Entry(account, Samples.Noon.AddMinutes(i), $"r{i}"), Cancel);
            await log.AppendAsync(Entry("other", Samples.Noon.AddMinutes(i), $"o{i}"), Cancel);
        }

        var page = await log.ListAsync(account, null, 3, Cancel);
        Assert.Equal(["r4", "r3", "r2"], page.Entries.Select(entry => entry.RequestId));
        Assert.Equal(Entry(account, Samples.Noon.AddMinutes(4), "r4"), page.Entries[0]);
        var rest = await log.ListAsync(account, page.NextToken, 3, Cancel);
        Assert.Equal(["r1", "r0"], rest.Entries.Select(entry => entry.RequestId));
        Assert.Null(rest.NextToken);
        Assert.Equal(10, (await log.ListAsync(null, null, 100, Cancel)).Entries.Count);
        await Assert.ThrowsAsync<FormatException>(() => log.ListAsync(null, "x", 3, Cancel));
        Assert.Equal(2, await log.PurgeAsync(Samples.Noon.AddMinutes(2), 2, Cancel));
        Assert.Equal(2, await log.PurgeAsync(Samples.Noon.AddMinutes(2), 3, Cancel));
        Assert.Equal(["r4", "r3", "r2"], (await log.ListAsync(account, null, 100, Cancel)).Entries.Select(entry => entry.RequestId));
    }

    private static AuditEntry Entry(string account, DateTimeOffset at, string request) => new()
    {
        At = at,
        RequestId = request,
        Account = account,
        Actor = "operator",
        Action = "CreateFunction",
        Resource = "/2023-03-30/functions",
        Source = "127.0.0.1",
        Status = 200,
    };

    private static FunctionSnapshot Function() => new()
    {
        Account = "acme",
        FunctionId = "id",
        Revision = 1,
        SpecRevision = 1,
        Spec = new FunctionSpec
        {
            Name = "f",
            Environment = new Dictionary<string, string> { ["SECRET_TOKEN"] = "token-value-1" },
            Container = new ContainerSpec { Image = "i", RegistryUser = "u", RegistryPassword = "pass-word-1" },
        },
    };

    private static GrainId Id(string kind) => GrainId.Create(kind, "secret-tests");

    /// <summary>Writes a state and gives back what lies in its row.</summary>
    private async Task<string> WriteAsync<T>(string kind, T state)
    {
        var grainState = new GrainState<T>();
        await store.Storage.ReadStateAsync(kind, Id(kind), grainState);
        grainState.State = state;
        await store.Storage.WriteStateAsync(kind, Id(kind), grainState);
        return Assert.Single(await store.Database.QueryAsync(
            "select payload from grain_state where kind = @kind and key = 'secret-tests'", [("kind", kind)],
            row => Encoding.UTF8.GetString(row.GetFieldValue<byte[]>(0)), Cancel));
    }

    private async Task<T> ReadAsync<T>(string kind)
    {
        var grainState = new GrainState<T>();
        await store.Storage.ReadStateAsync(kind, Id(kind), grainState);
        return grainState.State!;
    }
}
